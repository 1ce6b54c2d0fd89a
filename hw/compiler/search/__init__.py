"""What ways to do the steps need and cost, and the search for the cheapest."""
