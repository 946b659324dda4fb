/* Tells the service manager how far the daemon is: datagrams to the socket that NOTIFY_SOCKET names
 * (sd_notify(3), Type=notify and Type=notify-reload), without its library. */
#ifndef ORTHRUS_SERVER_NOTIFY_H
#define ORTHRUS_SERVER_NOTIFY_H

/* Sends one state, "READY=1" or "STOPPING=1" for example; nothing where there is no such socket.
 * What goes wrong is a warning in the log. Any thread. */
void notify_send(const char *state);
/* "RELOADING=1" with the time that systemd wants beside it. */
void notify_reloading(void);

#endif
