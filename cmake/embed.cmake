# Files in the program: orthrus_embed(TARGET SYMBOL FILE...) makes the bytes of the FILEs, one behind the other, the
# struct page SYMBOL (server/routes/pages.h). The same file, run as a script, writes the C source.
if(CMAKE_SCRIPT_MODE_FILE)
  set(bytes "")
  string(REPLACE "|" ";" inputs "${INPUT}")
  foreach(input ${inputs})
    file(READ ${input} part HEX)
    string(APPEND bytes "${part}")
  endforeach()
  # Of the bytes' hexadecimal text: it changes when they do, which is all that an ETag must.
  string(SHA256 etag "${bytes}")
  string(SUBSTRING "${etag}" 0 32 etag)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
  string(REGEX REPLACE "(................................................................................)"
         "\\1\n" bytes "${bytes}")
  file(WRITE ${OUTPUT} "#include \"server/routes/pages.h\"\n\nstatic const unsigned char bytes[] = {\n${bytes}\n};\n"
                       "const struct page ${SYMBOL} = {bytes, sizeof bytes, \"\\\"${etag}\\\"\"};\n")
  return()
endif()

set(orthrus_embed_script ${CMAKE_CURRENT_LIST_FILE})
function(orthrus_embed target symbol)
  set(output ${CMAKE_BINARY_DIR}/embedded/${symbol}.c)
  list(TRANSFORM ARGN PREPEND ${CMAKE_SOURCE_DIR}/ OUTPUT_VARIABLE files)
  list(JOIN files "|" input)
  add_custom_command(OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} -DINPUT=${input} -DOUTPUT=${output} -DSYMBOL=${symbol}
            -P ${orthrus_embed_script}
    DEPENDS ${files} ${orthrus_embed_script} VERBATIM)
  target_sources(${target} PRIVATE ${output})
endfunction()
