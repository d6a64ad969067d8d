#!/bin/sh
# Follow the log by pages: each becomes a file of FOLDER, named by the cursor that it begins behind.
# URL: of the gateway; HEADER: a file with `Authorization: Bearer KEY`; FOLDER: one that is there.
set -eu
cd "$FOLDER"
while :; do
    { read -r after < cursor; } 2>/dev/null || after=
    if curl -sS --fail-with-body --max-time 90 -H "@$HEADER" -H "Accept: application/x-ndjson" \
        -D head.new -o page.new "$URL/v1/events?limit=1000&wait=30&${after:+after=}${after:-from=start}"; then
        if [ -s page.new ]; then sync page.new; mv page.new "after-${after:-0}.ndjson"; fi
        tr -d '\r' < head.new | sed -n 's/^[Aa]udit-[Cc]ursor: *//p' > cursor.new
        sync cursor.new; mv cursor.new cursor
    else
        cat page.new >&2 2>/dev/null || :; sleep 5
    fi
done
