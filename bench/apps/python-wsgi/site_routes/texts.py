TEXT = "@TEXT@\n"
ABOUT = """@FILL:1500@
"""
