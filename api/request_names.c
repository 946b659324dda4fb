/* Names in requests: prompts, labels, tasks. */
#include <string.h>

#include "api/request_private.h"

bool read_name(struct reader *reader, const struct path *path, const json_t *value,
               const char **ret_name)
{
    if (!is(value, JSON_STRING)) {
        return reader_wrong_type(reader, path, "a string");
    }
    size_t size = json_string_length(value);
    if (memchr(json_string_value(value), '\0', size)) {
        return problem_set(reader->problem, PROBLEM_FIELD_VALUE, path->text,
                           "%s must not hold U+0000", path->text);
    }
    const char *copy = arena_memdup(reader->arena, json_string_value(value), size);
    if (!copy) {
        return reader_no_memory(reader);
    }
    *ret_name = copy;
    return true;
}

bool read_names(struct reader *reader, const struct path *path, const json_t *value, size_t most,
                struct api_name **ret_names, size_t *ret_n)
{
    size_t n = json_array_size(value);
    if (!is(value, JSON_ARRAY)) {
        return reader_wrong_type(reader, path, "an array of strings");
    }
    if (n > most) {
        return problem_set(reader->problem, PROBLEM_FIELD_RANGE, path->text,
                           "%s must hold at most %zu strings", path->text, most);
    }
    struct api_name *names = arena_calloc(reader->arena, n, sizeof *names);
    if (!names) {
        return reader_no_memory(reader);
    }
    for (size_t i = 0; i < n; i++) {
        struct path at = path_at(path, i);
        if (!read_name(reader, &at, json_array_get(value, i), &names[i].text)) {
            return false;
        }
    }
    *ret_names = names;
    *ret_n = n;
    return true;
}

/* A head's name, as routes and files spell it. */
static bool head_like(const char *name)
{
    size_t size = strlen(name);
    return size >= 1 && size <= API_NAME_MAX && name[0] >= 'a' && name[0] <= 'z' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == size;
}

static bool is_named(const struct api_request *request, const char *name)
{
    for (size_t i = 0; i < request->n_named; i++) {
        if (strcmp(request->named[i].text, name) == 0) {
            return true;
        }
    }
    return false;
}

bool read_tasks(struct reader *reader, const char *name, const json_t *value)
{
    static const char allowed[] =
        "an array of distinct tasks: \"embed\", \"classify\", \"sentiment\" or names of heads";
    static const char *const known[API_TASKS] = {"embed", "classify", "sentiment"};
    struct api_request *request = reader->request;
    struct path path = path_of(reader, name);
    size_t n = json_array_size(value);
    if (!is(value, JSON_ARRAY)) {
        return reader_wrong_type(reader, &path, allowed);
    }
    if (n == 0 || n > API_TASKS_MAX) {
        return problem_set(reader->problem, PROBLEM_FIELD_RANGE, path.text,
                           "tasks must hold 1 to %d names; it must be %s", API_TASKS_MAX, allowed);
    }
    struct api_name *tasks = NULL;
    if (!read_names(reader, &path, value, API_TASKS_MAX, &tasks, &n)) {
        return false;
    }
    request->tasks = 0;
    request->tasks_said = true;
    request->named = tasks; /* those that are no known task move to the front */
    for (size_t i = 0; i < n; i++) {
        unsigned task = 0;
        for (unsigned k = 0; k < API_TASKS; k++) {
            task |= strcmp(tasks[i].text, known[k]) == 0 ? 1u << k : 0;
        }
        if ((request->tasks & task) ||
            (!task && (!head_like(tasks[i].text) || is_named(request, tasks[i].text)))) {
            struct path at = path_at(&path, i);
            return problem_set(reader->problem, PROBLEM_FIELD_VALUE, at.text, "tasks must be %s",
                               allowed);
        }
        request->tasks |= task;
        if (!task) {
            request->named[request->n_named++] = tasks[i];
        }
    }
    return true;
}
