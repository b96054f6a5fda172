"""The workbook as a program: the runner, parameter files, the report and the command line."""
