"""The services. Imported before any library that counts the machine's processors for itself, so it limits them first."""

from services.runtime.threads import cpu_limit, limit_libraries

limit_libraries(cpu_limit())
