"""The Python API behind `import facedistill`: what the command line does, as functions.

`facedistill/__init__.py` imports these modules when one of their names is first used.
"""
