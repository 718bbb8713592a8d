"""The services. Limits the libraries that count the machine's processors for themselves, before any is imported."""

from services.runtime.threads import cpu_limit, limit_libraries

limit_libraries(cpu_limit())
