"""Labels from clicks (implicit feedback), for whatever learns from judgments."""
