"""What files may hold, seen through `parse_file` and its neighbours."""
