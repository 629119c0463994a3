"""What a person types, and what is printed in answer.

`commands` brings all commands together (`searching`, `reading`, `inspecting`), `output` and `checklist` print results, `prompts`
asks, and `framework` turns errors into one line and an exit code.
"""
