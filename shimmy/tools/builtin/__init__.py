"""The tools that come with shimmy, one file each: every public function of a file here is a tool."""
