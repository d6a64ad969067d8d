// The audit webhook of the Kubernetes API server: its backend and its batches, as they are, with the
// settings that the API server has. Made-up requests take the place of those to a cluster.
//
//	kube_audit -audit-webhook-config-file FILE -requests 1000 -rate 4000
//
// Each request makes two events, RequestReceived and ResponseComplete. It ends when all of them were
// sent or given up, and prints how many the backend gave up.
package main

import (
	"flag"
	"fmt"
	"log"
	"time"

	authnv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/apiserver/plugin/pkg/audit/buffered"
	pluginwebhook "k8s.io/apiserver/plugin/pkg/audit/webhook"
	"k8s.io/component-base/metrics/legacyregistry"
)

func main() {
	file := flag.String("audit-webhook-config-file", "", "kubeconfig of the webhook")
	backoff := flag.Duration("audit-webhook-initial-backoff", pluginwebhook.DefaultInitialBackoffDelay, "")
	wait := flag.Duration("audit-webhook-batch-max-wait", 30*time.Second, "")
	requests := flag.Int("requests", 1000, "how many requests are made up")
	first := flag.Int("first", 0, "number of the first one")
	rate := flag.Float64("rate", 4000, "events a second")
	poison := flag.Int("poison", 0, "each so manieth request has a body that no strict parser takes")
	flag.Parse()

	delegate, err := pluginwebhook.NewBackend(
		*file, auditv1.SchemeGroupVersion, webhook.DefaultRetryBackoffWithInitialDelay(*backoff), nil)
	if err != nil {
		log.Fatal(err)
	}
	// What pkg/server/options has for `--audit-webhook-mode=batch`.
	backend := buffered.NewBackend(delegate, buffered.BatchConfig{
		BufferSize: 10000, MaxBatchSize: 400, MaxBatchWait: *wait,
		ThrottleEnable: true, ThrottleQPS: 10, ThrottleBurst: 15, AsyncDelegate: true,
	})
	stop := make(chan struct{})
	if err := backend.Run(stop); err != nil {
		log.Fatal(err)
	}
	began := time.Now()
	for number := 0; number < *requests; number++ {
		for place, stage := range []auditinternal.Stage{
			auditinternal.StageRequestReceived, auditinternal.StageResponseComplete,
		} {
			due := began.Add(time.Duration(float64(2*number+place) / *rate * float64(time.Second)))
			time.Sleep(time.Until(due))
			poisoned := *poison > 0 && (*first+number)%*poison == 0
			backend.ProcessEvents(event(*first+number, stage, poisoned))
		}
	}
	made := time.Now()
	close(stop)
	backend.Shutdown()
	fmt.Printf("events %d, given up %d, seconds %.2f, behind %.2f\n",
		2**requests, givenUp(), made.Sub(began).Seconds(), time.Since(made).Seconds())
}

func event(number int, stage auditinternal.Stage, poisoned bool) *auditinternal.Event {
	now := metav1.NowMicro()
	name := fmt.Sprintf("web-%d", number)
	made := &auditinternal.Event{
		Level:                    auditinternal.LevelRequest,
		AuditID:                  types.UID(fmt.Sprintf("a-%d", number)),
		Stage:                    stage,
		RequestURI:               "/apis/apps/v1/namespaces/pay/deployments/" + name,
		Verb:                     "patch",
		User:                     user(),
		SourceIPs:                []string{"203.0.113.7"},
		UserAgent:                "kubectl/v1.34.1 (linux/amd64) kubernetes/93248f9",
		ObjectRef:                &auditinternal.ObjectReference{Resource: "deployments", Namespace: "pay", Name: name, APIGroup: "apps", APIVersion: "v1"},
		RequestReceivedTimestamp: now,
		StageTimestamp:           now,
		Annotations: map[string]string{
			"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": "",
		},
	}
	if stage == auditinternal.StageResponseComplete {
		made.ResponseStatus = &metav1.Status{Code: 200}
		body := `{"spec":{"replicas":3,"template":{"metadata":{"labels":{"app":"web"}}}}}`
		if poisoned {
			body = `{"spec":{"replicas":3,"replicas":4}}`
		}
		made.RequestObject = &runtime.Unknown{Raw: []byte(body), ContentType: runtime.ContentTypeJSON}
	}
	return made
}

func user() authnv1.UserInfo {
	return authnv1.UserInfo{Username: "alice@example.com", Groups: []string{"dev", "system:authenticated"}}
}

// givenUp is how many events the backends of audit have counted as not delivered.
func givenUp() int {
	families, err := legacyregistry.DefaultGatherer.Gather()
	if err != nil {
		log.Fatal(err)
	}
	count := 0
	for _, family := range families {
		if family.GetName() == "apiserver_audit_error_total" {
			for _, one := range family.Metric {
				count += int(one.GetCounter().GetValue())
			}
		}
	}
	return count
}
