# What makes a mistake in the program harder to use: orthrus_flags gets what compiler and linker
# have of it. tests/cli/test_binary.py reads the result from the program's own bytes.
include(CheckCCompilerFlag)
include(CheckCSourceCompiles)
include(CheckLinkerFlag)

# clang takes another architecture's flag with a warning.
set(CMAKE_REQUIRED_FLAGS "-Werror")
foreach(flag -fstack-clash-protection -fcf-protection=full -mbranch-protection=standard)
  string(MAKE_C_IDENTIFIER "ORTHRUS_HAS${flag}" known)
  check_c_compiler_flag(${flag} ${known})
  if(${known})
    target_compile_options(orthrus_flags INTERFACE ${flag})
  endif()
endforeach()
unset(CMAKE_REQUIRED_FLAGS)

# Addresses differ from run to run; what the linker has resolved is read-only before main().
target_compile_options(orthrus_flags INTERFACE -fPIE)
foreach(flag -pie -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack)
  string(MAKE_C_IDENTIFIER "ORTHRUS_LINKS${flag}" known)
  check_linker_flag(C ${flag} ${known})
  if(${known})
    target_link_options(orthrus_flags INTERFACE ${flag})
  endif()
endforeach()

# Checked copies need the optimizer; sanitizers bring their own. Level 3 knows sizes at run time.
if(CMAKE_BUILD_TYPE STREQUAL "Release")
  set(CMAKE_REQUIRED_FLAGS "-O2 -Werror -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3")
  check_c_source_compiles("#include <string.h>
#if __USE_FORTIFY_LEVEL < 3
#error level 3 is not there
#endif
int main(void) { return 0; }" ORTHRUS_HAS_FORTIFY_3)
  unset(CMAKE_REQUIRED_FLAGS)
  set(level 2)
  if(ORTHRUS_HAS_FORTIFY_3)
    set(level 3)
  endif()
  target_compile_options(orthrus_flags INTERFACE -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=${level})
endif()
