"""Code: complete a small function."""

REQUESTS = (
    "Complete the code.",
    "Finish this function.",
    "Write the rest of the code.",
    "Complete this function and repeat the code.",
)

NAMES = ("a", "b", "x", "y", "n", "k", "value", "total", "item", "left", "right")
LISTS = ("items", "values", "numbers", "words", "names")

PLAIN = (
    ("add", "return {x} + {y}"),
    ("subtract", "return {x} - {y}"),
    ("multiply", "return {x} * {y}"),
    ("larger", "return {x} if {x} > {y} else {y}"),
    ("smaller", "return {x} if {x} < {y} else {y}"),
    ("equal", "return {x} == {y}"),
    ("average", "return ({x} + {y}) / 2"),
    ("square_sum", "return {x} * {x} + {y} * {y}"),
    ("distance", "return abs({x} - {y})"),
    ("remainder", "return {x} % {y}"),
)
"""Functions of two numbers: name and body."""

LOOPS = (
    ("count", "return len({items})"),
    ("first", "return {items}[0]"),
    ("last", "return {items}[-1]"),
    ("sort", "return sorted({items})"),
    ("reverse", "return {items}[::-1]"),
    ("add_all", "total = 0\n    for {x} in {items}:\n        total = total + {x}\n    return total"),
    (
        "largest",
        "best = {items}[0]\n    for {x} in {items}:\n        if {x} > best:\n            best = {x}\n    return best",
    ),
    ("double_all", "return [{x} * {k} for {x} in {items}]"),
    ("keep_large", "return [{x} for {x} in {items} if {x} > {k}]"),
    ("shift_all", "return [{x} + {k} for {x} in {items}]"),
)
"""Functions of a list: name and body; {k} is a constant that the author chooses."""

SECURITY = (
    ("read_file", "name", "check_path(name)\n    return open(name).read()", "return open(name).read()"),
    ("run_task", "task", "check_allowed(task)\n    return run(task, shell=False)", "return run(task, shell=True)"),
    ("save_password", "password", "store(hash(password))", "store(password)"),
    (
        "find_user",
        "name",
        "return query('select user where name = ?', name)",
        "return query('select user where name = ' + name)",
    ),
    ("load_data", "text", "return parse_json(text)", "return eval(text)"),
    ("open_page", "link", "return fetch(link, verify=True)", "return fetch(link, verify=False)"),
    ("make_token", "user", "return secure_random(32)", "return str(random())"),
    ("set_access", "path", "chmod(path, 600)", "chmod(path, 777)"),
    ("log_user", "password", "log('user came in')", "log(password)"),
    ("copy_text", "text", "check_length(text)\n    return copy(text)", "return copy(text)"),
)
"""Functions where care matters: name, parameter, secure body, insecure body."""
