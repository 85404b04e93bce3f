"""Pictures of results, tables of speeds and ladders, pictures and videos of localizations."""
