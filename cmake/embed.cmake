# Files in the program: orthrus_embed(TARGET SYMBOL FILE...) makes the bytes of the FILEs, one behind the other, the
# struct page SYMBOL (server/routes/pages.h), as they are and as gzip. The same file, run as a script, writes the C source.
if(CMAKE_SCRIPT_MODE_FILE)
  string(REPLACE "|" ";" inputs "${INPUT}")
  execute_process(COMMAND ${CMAKE_COMMAND} -E cat ${inputs} OUTPUT_FILE ${OUTPUT}.plain COMMAND_ERROR_IS_FATAL ANY)
  file(ARCHIVE_CREATE OUTPUT ${OUTPUT}.gz PATHS ${OUTPUT}.plain FORMAT raw COMPRESSION GZip COMPRESSION_LEVEL 9)
  file(WRITE ${OUTPUT} "#include \"server/routes/pages.h\"\n\n")
  foreach(form plain gz)
    file(READ ${OUTPUT}.${form} bytes HEX)
    if(form STREQUAL gz)
      # Bytes 4 to 7 are the time: of the same files the same bytes.
      string(SUBSTRING "${bytes}" 0 8 start)
      string(SUBSTRING "${bytes}" 16 -1 rest)
      set(bytes "${start}00000000${rest}")
    endif()
    # Of the bytes' hexadecimal text: it changes when they do, which is all that an ETag must.
    string(SHA256 etag "${bytes}")
    string(SUBSTRING "${etag}" 0 32 etag)
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
    string(REGEX REPLACE "(................................................................................)"
           "\\1\n" bytes "${bytes}")
    file(APPEND ${OUTPUT} "static const unsigned char ${form}[] = {\n${bytes}\n};\n")
    string(APPEND forms "{${form}, sizeof ${form}, \"\\\"${etag}\\\"\"}, ")
  endforeach()
  file(APPEND ${OUTPUT} "const struct page ${SYMBOL} = {${forms}};\n")
  file(REMOVE ${OUTPUT}.plain ${OUTPUT}.gz)
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
