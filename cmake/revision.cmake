# The revision of the source in the program: orthrus_revision(TARGET) adds program_revision.c, which
# is written anew when HEAD has moved. The same file, run as a script, writes it. ORTHRUS_REVISION
# says what to take where there is no checkout.
if(CMAKE_SCRIPT_MODE_FILE)
  if(NOT REVISION AND EXISTS ${SOURCE}/.git)
    execute_process(COMMAND git -C ${SOURCE} rev-parse HEAD OUTPUT_VARIABLE REVISION
                    OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  endif()
  if(NOT REVISION MATCHES "^[A-Za-z0-9._+-]*$")
    message(FATAL_ERROR "ORTHRUS_REVISION: letters, digits and ._+- are allowed")
  endif()
  set(text "#include \"cli/revision.h\"\n\nconst char program_revision[] = \"${REVISION}\";\n")
  set(old "")
  if(EXISTS ${OUTPUT})
    file(READ ${OUTPUT} old)
  endif()
  if(NOT text STREQUAL old)
    file(WRITE ${OUTPUT} "${text}")
  endif()
  return()
endif()

set(ORTHRUS_REVISION "" CACHE STRING "Revision of the source; empty: what git says")
set(orthrus_revision_script ${CMAKE_CURRENT_LIST_FILE})
function(orthrus_revision target)
  set(output ${CMAKE_BINARY_DIR}/revision/program_revision.c)
  add_custom_target(orthrus_revision_check BYPRODUCTS ${output}
    COMMAND ${CMAKE_COMMAND} -DSOURCE=${CMAKE_SOURCE_DIR} -DOUTPUT=${output}
            -DREVISION=${ORTHRUS_REVISION} -P ${orthrus_revision_script} VERBATIM)
  target_sources(${target} PRIVATE ${output})
  add_dependencies(${target} orthrus_revision_check)
endfunction()
