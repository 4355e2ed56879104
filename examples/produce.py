"""A stock producer in Python: confluent-kafka with its own AvroSerializer. No Flowstate code.

    .venv/bin/flowstate up                        # in another terminal
    .venv/bin/python examples/produce.py 127.0.0.1:9092 http://127.0.0.1:8081

Registers a mailbox for "ann", sends her three messages and a sign-in warning, and waits until Kafka
has acknowledged them. Then: flowstate explain ann
"""

import sys
import time
import uuid

from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext


def main(bootstrap: str, registry_url: str) -> None:
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            # The one setting that matters: librdkafka's default is CRC32, while Java's producer and
            # Flowstate use murmur2. With the default, records still arrive
            # (Flowstate forwards them), but later, and out of order with the right ones.
            "partitioner": "murmur2_random",
            "enable.idempotence": True,  # a retry is not a second event
            "acks": "all",
        }
    )
    registry = SchemaRegistryClient({"url": registry_url})
    failures: list[str] = []

    def send(topic: str, value: dict) -> None:
        subject = f"{topic}-value"
        schema = registry.get_latest_version(subject).schema.schema_str
        serializer = AvroSerializer(registry, schema, conf={"auto.register.schemas": False})
        producer.produce(
            topic,
            key=value["recipient_id"].encode(),
            value=serializer(value, SerializationContext(topic, MessageField.VALUE)),
            on_delivery=lambda error, _: failures.append(str(error)) if error else None,
        )

    now_ms = time.time_ns() // 1_000_000
    send(
        "destinations",
        {
            "recipient_id": "ann",
            "destination_id": "mailbox",
            "kind": "email",
            "address": "ann@example.test",
            "registered_at_ms": now_ms,
        },
    )
    # Wait: a destination that is acknowledged before an event is sent applies to that event.
    producer.flush(30)
    for actor in ("bob", "carl", "dora"):
        send(
            "events.normal",
            {
                # The same id on a resend makes it a duplicate and not a second notification.
                "event_id": f"message-{uuid.uuid4()}",
                "recipient_id": "ann",
                "category": "message",
                "created_at_ms": now_ms,
                "actor_id": actor,
                "data": {"actor": actor},
            },
        )
    send(
        "events.critical",
        {
            "event_id": f"sign-in-{uuid.uuid4()}",
            "recipient_id": "ann",
            "category": "security",
            "created_at_ms": now_ms,
            "data": {"device": "laptop"},
        },
    )
    left = producer.flush(30)
    if failures or left:
        sys.exit(f"not acknowledged: {failures or left}")
    print("5 records acknowledged. Now try: flowstate explain ann")


if __name__ == "__main__":
    main(*(sys.argv[1:] or ("127.0.0.1:9092", "http://127.0.0.1:8081")))
