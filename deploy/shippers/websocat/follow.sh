#!/bin/sh
# Append the events of a durable consumer to a file. URL: wss://..; CREDENTIALS: a file with `NAME:KEY`,
# of any name; FILE: where the events go, one per line.
set -eu
while :; do
    # What was torn by a kill stays a line of its own.
    if [ -n "$(tail -c 1 "$FILE" 2>/dev/null)" ]; then echo >> "$FILE"; fi
    websocat -n -U --basic-auth="$(cat "$CREDENTIALS")" \
        "$URL/v1/stream?consumer=websocat&from=start&on_gap=skip" < /dev/null >> "$FILE" || :
    sleep 1
done
