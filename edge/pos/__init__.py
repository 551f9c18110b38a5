"""The tills: messages, MQTT, broker, intake, price book."""
