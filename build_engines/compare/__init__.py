"""Two published versions of one task side by side: the same examples, the same machine, in turn; is the second one worse?"""
