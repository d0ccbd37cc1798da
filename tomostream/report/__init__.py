"""Pictures and the HTML page; they draw what they are given and read no project folder."""
