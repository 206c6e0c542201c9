"""The writer role: prompts to texts, by a language model or without one."""
