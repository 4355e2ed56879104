#!/usr/bin/env bash
# The same over HTTP, with nothing but curl: an address for ann, one event, and what became of it.
#
#   flowstate up                    # in another terminal
#   bash examples/produce.sh        # API=http://127.0.0.1:8080 TOKEN=... for another server
#
# 202 means that Kafka has acknowledged the event. Sending it again with the same event_id changes
# nothing, so a timeout is answered by trying again.
set -euo pipefail
API="${API:-http://127.0.0.1:8080}"
HEADERS=(-H "Content-Type: application/json" -H "Authorization: Bearer ${TOKEN:-}")
EVENT_ID="curl-$(date +%s)"

curl --fail-with-body -sS -X PUT "$API/v1/recipients/ann/destinations/mailbox" "${HEADERS[@]}" \
  -d '{"kind": "email", "address": "ann@example.test"}'
echo

curl --fail-with-body -sS -X POST "$API/v1/events" "${HEADERS[@]}" -d "{
  \"event_id\": \"$EVENT_ID\", \"recipient_id\": \"ann\", \"category\": \"security\",
  \"created_at_ms\": $(date +%s000),
  \"data\": {\"device\": \"laptop\"}
}"
echo
echo "why did ann get it? flowstate explain ann $EVENT_ID"
