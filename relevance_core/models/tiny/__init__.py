"""The builtin base model: a small Qwen3 that is built from click logs and the catalogue."""
