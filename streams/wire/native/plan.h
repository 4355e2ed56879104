/* Avro without the interpreter: plans, as reader.py and writer.py make them, to be carried out in C.
 *
 * Optional, as all that is compiled: deploy/compile.sh makes `streams.wire._native` of this file,
 * and reader.py and writer.py use it where it is there. They know the rules (which schemas are
 * safe, how ours and a writer's are resolved) and hand a plan over, a tree of tuples; this file
 * knows none of that and only moves bytes. The same tests hold for both.
 *
 * A plan's node is a tuple that begins with one of the numbers below:
 *
 *   writing                                   reading
 *   (STRING,) (BYTES,) (LONG,) (BOOLEAN,)     the same, (NULL,), and
 *   (DOUBLE,) (FLOAT,)                        (FIXED, size)
 *   (ENUM, {symbol: number})                  (ENUM, (symbol or None, ...), why not)
 *   (UNION, node)       null, or this         (UNION, (node, ...))
 *   (ARRAY, node)                             (ARRAY, node, as tuples, kept)
 *   (MAP, node)                               (MAP, node, kept)
 *   (RECORD, ((path, node), ...))             (RECORD, ((slot or -1, node), ...), defaults,
 *      path: names of attributes; what           constructor, or the fields' names; None: not kept)
 *      follows on None is None                (REFUSED, why)
 *                                             (TO_FLOAT, node) (TO_BYTES, node) (TO_STRING, node)
 *
 * Invariants: whatever the bytes, reading gives a value or raises what the Python reader raises
 * (IndexError: cut short, MalformedError, UnicodeDecodeError), in time and memory proportional to
 * their length; nothing is read beyond the end. The depth of a plan is bounded by who makes it.
 *
 * Source: https://avro.apache.org/docs/1.12.0/specification/#binary-encoding
 */
#ifndef FLOWSTATE_PLAN_H
#define FLOWSTATE_PLAN_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>

enum {
    NONE, BOOLEAN, LONG, FLOAT, DOUBLE, BYTES, STRING, FIXED, ENUM, UNION, ARRAY, MAP, RECORD,
    REFUSED, TO_FLOAT, TO_BYTES, TO_STRING
};
enum { ATTRIBUTES, ITEMS, ARGUMENTS }; /* where a writer finds the fields of its record */

typedef struct {
    PyObject *name;
    PyTypeObject *type; /* of the struct that was asked last; held */
    Py_ssize_t offset;  /* of the attribute in it */
} Step;

typedef struct Node {
    int op;
    int kept;             /* reading: whether anybody wants the value */
    int as_tuple;         /* reading, ARRAY */
    Py_ssize_t count;     /* of children; FIXED: bytes */
    struct Node *children;
    Py_ssize_t *slots;    /* reading, RECORD: a child's place among the arguments, or -1 */
    Py_ssize_t steps;     /* writing, of a field: length of its path */
    Step *path;
    PyObject *object;     /* ENUM: symbols; RECORD: constructor or names; REFUSED: why */
    PyObject *why;        /* ENUM, reading: what to say of an unknown symbol */
    PyObject *defaults;   /* reading, RECORD */
} Node;

/* Takes a plan apart into ``node``, for writing or reading; -1 with an exception. */
int plan_node(Node *node, PyObject *plan, int writing);
/* Frees what a node holds, whole or half made. */
void node_clear(Node *node);

/* ``header`` and the record: of one struct or mapping, or (ARGUMENTS) of its fields, as bytes. */
PyObject *write_whole(
    Node *root, PyObject *header, PyObject *const *given, Py_ssize_t count, int access);
/* The value that begins at ``start`` and ends with ``data``; ``malformed`` is the class to raise. */
PyObject *read_whole(Node *root, PyObject *malformed, PyObject *data, Py_ssize_t start);

#endif
