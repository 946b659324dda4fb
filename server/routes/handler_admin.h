/* The admin routes: heads listed, swapped, rolled back, downloaded. What changes anything runs on
 * the swapper's thread. */
#ifndef ORTHRUS_SERVER_HANDLER_ADMIN_H
#define ORTHRUS_SERVER_HANDLER_ADMIN_H

#include "server/routes/routes.h"

extern const struct handler handler_heads_list; /* GET /admin/heads */
extern const struct handler handler_heads_put;  /* PUT /admin/heads */
extern const struct handler handler_heads_rollback;
/* DELETE /admin/heads/{name}: a version without that head. */
extern const struct handler handler_heads_delete;
/* The set that is staged: what it would have said, to drop it, to make it active. */
extern const struct handler handler_shadow_report;
extern const struct handler handler_shadow_drop;
extern const struct handler handler_shadow_promote; /* POST /admin/heads/rollback */
extern const struct handler handler_heads_file;     /* GET /admin/heads/N */

#endif
