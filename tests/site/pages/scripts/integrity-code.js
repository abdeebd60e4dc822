/* fetched text that is run: executed_NAME_text */ (globalThis.ran ??= []).push("NAME");
