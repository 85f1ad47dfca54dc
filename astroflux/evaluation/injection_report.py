def write_injection_report(*a, **k): raise NotImplementedError
