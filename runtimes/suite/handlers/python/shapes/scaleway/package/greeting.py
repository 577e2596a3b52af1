def of(name):
    return "hello " + name
