# Files in the program: orthrus_embed(TARGET SYMBOL FILE) makes FILE's bytes the array SYMBOL and
# their number SYMBOL_size. The same file, run as a script, writes the C source.
if(CMAKE_SCRIPT_MODE_FILE)
  file(READ ${INPUT} bytes HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
  string(REGEX REPLACE "(................................................................................)"
         "\\1\n" bytes "${bytes}")
  file(WRITE ${OUTPUT} "#include \"server/routes/pages.h\"\n\nconst unsigned char ${SYMBOL}[] = {\n${bytes}\n};\n"
                       "const size_t ${SYMBOL}_size = sizeof ${SYMBOL};\n")
  return()
endif()

set(orthrus_embed_script ${CMAKE_CURRENT_LIST_FILE})
function(orthrus_embed target symbol file)
  set(output ${CMAKE_BINARY_DIR}/embedded/${symbol}.c)
  add_custom_command(OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} -DINPUT=${file} -DOUTPUT=${output} -DSYMBOL=${symbol}
            -P ${orthrus_embed_script}
    DEPENDS ${file} ${orthrus_embed_script} VERBATIM)
  target_sources(${target} PRIVATE ${output})
endfunction()
