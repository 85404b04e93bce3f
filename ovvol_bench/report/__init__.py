"""What results say: tables, comparisons, the results README, pictures and videos of localizations."""
