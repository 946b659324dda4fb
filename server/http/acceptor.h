/* The thread that accepts connections of both listeners and hands them to http. Process
 * lifetime. */
#ifndef ORTHRUS_SERVER_ACCEPTOR_H
#define ORTHRUS_SERVER_ACCEPTOR_H

#include "base/err.h"
#include "server/http/http.h"
#include "server/http/listen.h"

struct acceptor;

/* Starts accepting. The sockets (admin->fd may be -1: none) are borrowed until acceptor_stop. */
CHECK_RESULT enum err_code acceptor_create(struct http *http, struct listen_socket *main,
                                           struct listen_socket *admin,
                                           struct acceptor **ret_acceptor, struct err *err);
/* Accepts what the kernel has already taken in, then closes both sockets and ends the thread. NULL
 * is fine. */
void acceptor_destroy(struct acceptor *acceptor);

#endif
