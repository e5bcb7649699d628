expect python 'ok' "$(python3 -S -B /checks/python-check.py 2>&1)"
