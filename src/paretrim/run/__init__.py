"""Running a recipe: from data and network to candidates, their files and what is delivered."""
