"""Where `oneiros play` leads: a page in the browser, or this terminal."""
