"""A pytest plugin that writes the values of every assertion that passes: `-p statistical.assertions`.

Needs `-o enable_assertion_pass_hook=true`. Lines of JSON go to the file named by MASSMAP_TEST_ASSERTIONS. They are
compared between settings of the compiler, to see by how much rounding moves a value (false_alarms.py --rounding).
"""

import json
import os


def pytest_assertion_pass(item, lineno, orig, expl):
    line = {"test": item.nodeid, "line": lineno, "assert": orig, "values": expl.splitlines()[0][:2000]}
    with open(os.environ["MASSMAP_TEST_ASSERTIONS"], "a") as file:
        file.write(json.dumps(line) + "\n")
