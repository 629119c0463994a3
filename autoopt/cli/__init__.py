"""What a person types, and what is printed in answer.

`commands` has the commands, `output` and `checklist` print results, `prompts` asks, and `framework` turns errors into one line and
an exit code.
"""
