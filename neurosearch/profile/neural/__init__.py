"""Networks that read a history: trained on the train queries' purchases, all products scored."""
