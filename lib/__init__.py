"""The functions behind the notebooks. Imports run one way: runs ← moods ← tracks ← queries ← … ← workbook."""
