# What `cmake --install` lays out, and the Debian package that `cpack` makes of it. Paths inside files are those of the
# prefix that was configured, so a package is made with -DCMAKE_INSTALL_PREFIX=/usr (preset "package").
include(GNUInstallDirs)
set(share ${CMAKE_INSTALL_DATADIR}/orthrus)

install(TARGETS orthrus)
install(FILES heads/default.safetensors DESTINATION ${share}/heads OPTIONAL)
install(FILES heads/README.md DESTINATION ${share}/heads)
install(PROGRAMS tools/fetch-model tools/install-packages tools/push-heads DESTINATION ${share}/tools)
install(DIRECTORY tools/fetchmodel DESTINATION ${share}/tools FILES_MATCHING PATTERN "*.py")
# A link, not a copy: the tool finds its parts beside what it points at.
file(RELATIVE_PATH to_tools ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_PREFIX}/${share}/tools)
foreach(tool fetch-model push-heads)
  file(CREATE_LINK ${to_tools}/${tool} ${CMAKE_BINARY_DIR}/orthrus-${tool} SYMBOLIC)
  install(FILES ${CMAKE_BINARY_DIR}/orthrus-${tool} DESTINATION ${CMAKE_INSTALL_BINDIR})
endforeach()
install(FILES openapi.yaml openapi.json DESTINATION ${share})
install(FILES docker/grafana/orthrus.json docker/prometheus/alerts.yml DESTINATION ${share}/monitoring)
install(FILES LICENSE README.md CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR})

configure_file(packaging/orthrus.service.in ${CMAKE_BINARY_DIR}/orthrus.service @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/orthrus.service DESTINATION lib/systemd/system)
install(FILES packaging/orthrus.env DESTINATION ${CMAKE_INSTALL_FULL_SYSCONFDIR}/orthrus)

# Man pages and completions come out of the program, from the tables that --help is made of. What is built for another
# machine can't be asked: such a package goes without them.
if(NOT CMAKE_CROSSCOMPILING)
  set(manual ${CMAKE_BINARY_DIR}/manual)
  add_custom_command(OUTPUT ${manual}/stamp
    COMMAND ${CMAKE_SOURCE_DIR}/packaging/manual $<TARGET_FILE:orthrus> ${manual}
    COMMAND ${CMAKE_COMMAND} -E touch ${manual}/stamp
    DEPENDS orthrus ${CMAKE_SOURCE_DIR}/packaging/manual VERBATIM)
  add_custom_target(manual ALL DEPENDS ${manual}/stamp)
  install(DIRECTORY ${manual}/man1 DESTINATION ${CMAKE_INSTALL_MANDIR})
  install(FILES ${manual}/orthrus DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
  install(FILES ${manual}/_orthrus DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions)
  install(FILES ${manual}/orthrus.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
endif()

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGING_INSTALL_PREFIX ${CMAKE_INSTALL_PREFIX})
set(CPACK_PACKAGE_NAME orthrus)
set(CPACK_PACKAGE_CONTACT "The maintainers of orthrus <orthrus@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "sentence embeddings and predictions over HTTP")
set(CPACK_PACKAGE_DESCRIPTION "A daemon that keeps a BERT encoder and task heads in memory and serves them as JSON,
 with the routes of text-embeddings-inference and of OpenAI, batching by tokens and heads that are
 swapped while it serves; a trainer for the heads.")
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS adduser)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "python3, ca-certificates")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "maven, haproxy, prometheus")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
file(WRITE ${CMAKE_BINARY_DIR}/deb/conffiles "${CMAKE_INSTALL_FULL_SYSCONFDIR}/orthrus/orthrus.env\n")
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${CMAKE_BINARY_DIR}/deb/conffiles ${CMAKE_SOURCE_DIR}/packaging/postinst
    ${CMAKE_SOURCE_DIR}/packaging/prerm ${CMAKE_SOURCE_DIR}/packaging/postrm)
include(CPack)
