// Alert rules over given series, by Prometheus' own parser and engine.
//
//	alert_rules RULES.yaml < CASES.json
//
// Each case has series as `load` of Prometheus' tests writes them, and the minute at which it is
// asked which alerts fire. Prints them, by the names of the cases.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
)

const step = 30 * time.Second

type testCase struct {
	Name   string `json:"name"`
	Load   string `json:"load"`
	Minute int    `json:"minute"`
	// Expressions of which to say whether they have a value.
	Expressions []string `json:"expressions"`
}

// What a storage of tests reports its failures to.
type reporter struct{ testing.TB }

func (reporter) Helper() {}

func (reporter) Name() string { return "alert_rules" }

func (reporter) Logf(string, ...any) {}

func (reporter) Cleanup(func()) {}

func (reporter) TempDir() string {
	folder, err := os.MkdirTemp("", "alert_rules")
	if err != nil {
		fail(err)
	}
	return folder
}

func (reporter) Errorf(format string, args ...any) { fail(fmt.Errorf(format, args...)) }

func (reporter) Fatalf(format string, args ...any) { fail(fmt.Errorf(format, args...)) }

func (reporter) FailNow() { os.Exit(1) }

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func main() {
	groups, errs := parsed(os.Args[1])
	for _, err := range errs {
		fail(err)
	}
	var cases []testCase
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil {
		fail(err)
	}
	engine := promql.NewEngine(promql.EngineOpts{
		MaxSamples: 1000000, Timeout: time.Minute, LookbackDelta: 5 * time.Minute,
		Parser: parser.NewParser(parser.Options{}),
	})
	found := map[string][]string{}
	for _, one := range cases {
		storage := promqltest.LoadedStorage(reporter{}, one.Load)
		has := func(expression string, at time.Time) bool {
			query, err := engine.NewInstantQuery(context.Background(), storage, nil, expression, at)
			if err != nil {
				fail(fmt.Errorf("%s: %w", expression, err))
			}
			defer query.Close()
			result := query.Exec(context.Background())
			if result.Err != nil {
				fail(fmt.Errorf("%s: %w", expression, result.Err))
			}
			vector, err := result.Vector()
			return err != nil || len(vector) > 0
		}
		end := time.Unix(0, 0).Add(time.Duration(one.Minute) * time.Minute)
		names := []string{}
		for _, group := range groups.Groups {
			for _, rule := range group.Rules {
				if rule.Alert == "" {
					continue
				}
				firing := true
				for at := end; firing && !at.Before(end.Add(-time.Duration(rule.For))); at = at.Add(-step) {
					firing = has(rule.Expr, at)
				}
				if firing {
					names = append(names, rule.Alert)
				}
			}
		}
		for _, expression := range one.Expressions {
			if has(expression, end) {
				names = append(names, expression)
			}
		}
		found[one.Name] = names
		storage.Close()
	}
	_ = json.NewEncoder(os.Stdout).Encode(found)
}

func parsed(file string) (*rulefmt.RuleGroups, []error) {
	logger := slog.New(slog.DiscardHandler)
	return rulefmt.ParseFile(file, false, model.UTF8Validation, parser.NewParser(parser.Options{}), logger)
}
