/* The daemon: listeners first (503 until ready), then the engine, then until a signal ends it. */
#ifndef ORTHRUS_SERVER_SERVER_H
#define ORTHRUS_SERVER_SERVER_H

#include "base/err.h"
#include "server/settings.h"

/* Runs until SIGTERM or SIGINT and a drain; SIGHUP reloads. Installs handlers for the three and
 * ignores SIGPIPE. Once per process, on the main thread. Returns ERR_OK after a clean exit. */
CHECK_RESULT enum err_code server_run(const struct settings *settings, struct err *err);

#endif
