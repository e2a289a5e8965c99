"""Online predictions at the gateway: who answers, within which limits, by which rule. No model is ever loaded here."""
