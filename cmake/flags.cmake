# One interface target carries the warnings and sanitizers that every target is built with.
add_library(orthrus_flags INTERFACE)
target_compile_definitions(orthrus_flags INTERFACE _GNU_SOURCE)
target_compile_options(orthrus_flags INTERFACE
  -Wall -Wextra -Wshadow -Wpointer-arith -Wcast-qual -Wstrict-prototypes -Wmissing-prototypes
  -Wwrite-strings -Wformat=2 -Wundef -Wvla
  -fno-math-errno -ffp-contract=off -fstack-protector-strong)
if(ORTHRUS_WERROR)
  target_compile_options(orthrus_flags INTERFACE -Werror)
endif()
include(cmake/hardening.cmake)
if(ORTHRUS_SANITIZE)
  target_compile_options(orthrus_flags INTERFACE
    -fsanitize=${ORTHRUS_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(orthrus_flags INTERFACE -fsanitize=${ORTHRUS_SANITIZE})
endif()
if(ORTHRUS_COVERAGE)
  target_compile_options(orthrus_flags INTERFACE --coverage -fprofile-update=prefer-atomic)
  target_link_options(orthrus_flags INTERFACE --coverage)
endif()
# Coverage of the whole program, not of the fuzz target alone, is what guides the fuzzers.
if(ORTHRUS_FUZZ)
  target_compile_options(orthrus_flags INTERFACE -fsanitize=fuzzer-no-link)
  target_link_options(orthrus_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
