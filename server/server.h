/* The daemon: listeners first (503 until ready), then the engine, then until a signal ends it. */
#ifndef ORTHRUS_SERVER_SERVER_H
#define ORTHRUS_SERVER_SERVER_H

#include "base/err.h"
#include "server/settings.h"

/* Runs until SIGTERM or SIGINT and a drain. Call on the main thread before any other thread
 * exists: signals are blocked here and read by this thread. Returns ERR_OK after a clean exit. */
CHECK_RESULT enum err_code server_run(const struct settings *settings, struct err *err);

#endif
