/* Avro without the interpreter: what reader.py and writer.py plan, done in C.
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
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

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

static void node_clear(Node *node) {
    for (Py_ssize_t at = 0; node->children && at < node->count; at++)
        node_clear(&node->children[at]);
    for (Py_ssize_t at = 0; at < node->steps; at++) {
        Py_XDECREF(node->path[at].name);
        Py_XDECREF((PyObject *)node->path[at].type);
    }
    PyMem_Free(node->children);
    PyMem_Free(node->slots);
    PyMem_Free(node->path);
    Py_XDECREF(node->object);
    Py_XDECREF(node->why);
    Py_XDECREF(node->defaults);
    memset(node, 0, sizeof *node);
}

/* `count` zeroed children. */
static int node_grow(Node *node, Py_ssize_t count) {
    node->children = PyMem_Calloc(count ? count : 1, sizeof(Node));
    node->slots = PyMem_Calloc(count ? count : 1, sizeof(Py_ssize_t));
    if (!node->children || !node->slots) {
        PyErr_NoMemory();
        return -1;
    }
    node->count = count;
    return 0;
}

/* ------------------------------------------------------------------------------------ writing */

typedef struct {
    char *start, *at, *end;
    char local[1024]; /* most records fit */
} Buffer;

static void buffer_begin(Buffer *buffer) {
    buffer->start = buffer->at = buffer->local;
    buffer->end = buffer->local + sizeof buffer->local;
}

static void buffer_free(Buffer *buffer) {
    if (buffer->start != buffer->local)
        PyMem_Free(buffer->start);
}

static int buffer_grow(Buffer *buffer, Py_ssize_t more) {
    Py_ssize_t used = buffer->at - buffer->start, size = buffer->end - buffer->start;
    if (more > PY_SSIZE_T_MAX / 4) {
        PyErr_NoMemory();
        return -1;
    }
    while (size - used < more)
        size *= 2;
    char *moved = PyMem_Malloc(size);
    if (!moved) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(moved, buffer->start, used);
    buffer_free(buffer);
    buffer->start = moved;
    buffer->at = moved + used;
    buffer->end = moved + size;
    return 0;
}

static inline int buffer_has_room(Buffer *buffer, Py_ssize_t more) {
    return buffer->end - buffer->at >= more ? 0 : buffer_grow(buffer, more);
}

static inline int put_long(Buffer *buffer, int64_t value) {
    if (buffer_has_room(buffer, 10) < 0)
        return -1;
    uint64_t rest = ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
    char *at = buffer->at;
    while (rest > 127) {
        *at++ = (char)(rest | 128);
        rest >>= 7;
    }
    *at++ = (char)rest;
    buffer->at = at;
    return 0;
}

static inline int put_bytes(Buffer *buffer, const char *data, Py_ssize_t size) {
    if (put_long(buffer, size) < 0 || buffer_has_room(buffer, size) < 0)
        return -1;
    memcpy(buffer->at, data, size);
    buffer->at += size;
    return 0;
}

static int put_string(Buffer *buffer, PyObject *text) {
    if (PyUnicode_CheckExact(text) && PyUnicode_IS_COMPACT_ASCII(text))
        return put_bytes(buffer, PyUnicode_DATA(text), PyUnicode_GET_LENGTH(text));
    /* Not PyUnicode_AsUTF8AndSize, which keeps what it made for as long as the text lives. */
    PyObject *encoded = PyUnicode_AsUTF8String(text);
    if (!encoded)
        return -1;
    int done = put_bytes(buffer, PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded));
    Py_DECREF(encoded);
    return done;
}

static int put_buffer(Buffer *buffer, PyObject *data) {
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
        return -1;
    int done = put_bytes(buffer, view.buf, view.len);
    PyBuffer_Release(&view);
    return done;
}

static int put_real(Buffer *buffer, PyObject *number, int size) {
    double value = PyFloat_AsDouble(number);
    if ((value == -1.0 && PyErr_Occurred()) || buffer_has_room(buffer, size) < 0)
        return -1;
    int failed = size == 4 ? PyFloat_Pack4(value, buffer->at, 1) : PyFloat_Pack8(value, buffer->at, 1);
    buffer->at += size;
    return failed;
}

/* The attribute the ordinary way; remembers where it is when it is a slot, as a struct's are. */
static PyObject *attribute_looked_up(Step *step, PyObject *value) {
    PyTypeObject *type = Py_TYPE(value);
    if (type->tp_getattro == PyObject_GenericGetAttr) {
        PyObject *found = _PyType_Lookup(type, step->name);
        if (found && Py_IS_TYPE(found, &PyMemberDescr_Type)) {
            PyMemberDef *member = ((PyMemberDescrObject *)found)->d_member;
            if (member->type == T_OBJECT_EX) {
                Py_INCREF(type);
                Py_XSETREF(step->type, type);
                step->offset = member->offset;
            }
        }
    }
    return PyObject_GetAttr(value, step->name);
}

static inline PyObject *attribute(Step *step, PyObject *value) {
    if (Py_TYPE(value) == step->type) {
        PyObject *found = *(PyObject **)((char *)value + step->offset);
        if (found)
            return Py_NewRef(found);
    }
    return attribute_looked_up(step, value);
}

static PyObject *at_path(Node *field, PyObject *value) {
    PyObject *found = attribute(&field->path[0], value);
    for (Py_ssize_t at = 1; found && found != Py_None && at < field->steps; at++) {
        PyObject *inner = attribute(&field->path[at], found);
        Py_SETREF(found, inner);
    }
    return found;
}

static int write_value(Node *node, PyObject *value, Buffer *buffer, int access);

static int write_record(Node *node, PyObject *value, Buffer *buffer, int access) {
    for (Py_ssize_t at = 0; at < node->count; at++) {
        Node *field = &node->children[at];
        PyObject *found = access == ITEMS ? PyObject_GetItem(value, field->path[0].name)
                                          : at_path(field, value);
        if (!found)
            return -1;
        int done = write_value(field, found, buffer, access);
        Py_DECREF(found);
        if (done < 0)
            return -1;
    }
    return 0;
}

static int write_array(Node *node, PyObject *value, Buffer *buffer, int access) {
    PyObject *items = PySequence_Fast(value, "an array takes a sequence");
    if (!items)
        return -1;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(items);
    int done = count ? put_long(buffer, count) : 0;
    for (Py_ssize_t at = 0; done == 0 && at < PySequence_Fast_GET_SIZE(items); at++) {
        PyObject *item = Py_NewRef(PySequence_Fast_GET_ITEM(items, at));
        done = write_value(&node->children[0], item, buffer, access);
        Py_DECREF(item);
    }
    if (done == 0 && count != PySequence_Fast_GET_SIZE(items)) {
        PyErr_SetString(PyExc_RuntimeError, "an array changed while it was written");
        done = -1;
    }
    Py_DECREF(items);
    return done < 0 ? -1 : put_long(buffer, 0);
}

static int write_map(Node *node, PyObject *value, Buffer *buffer, int access) {
    PyObject *copy = NULL, *key, *item;
    if (!PyDict_CheckExact(value)) {
        copy = PyDict_New();
        if (!copy || PyDict_Update(copy, value) < 0) {
            Py_XDECREF(copy);
            return -1;
        }
        value = copy;
    }
    Py_ssize_t count = PyDict_GET_SIZE(value), place = 0, seen = 0;
    int done = count ? put_long(buffer, count) : 0;
    while (done == 0 && PyDict_Next(value, &place, &key, &item)) {
        Py_INCREF(key);
        Py_INCREF(item);
        done = put_string(buffer, key);
        if (done == 0)
            done = write_value(&node->children[0], item, buffer, access);
        Py_DECREF(key);
        Py_DECREF(item);
        seen++;
    }
    if (done == 0 && seen != count) {
        PyErr_SetString(PyExc_RuntimeError, "a map changed while it was written");
        done = -1;
    }
    Py_XDECREF(copy);
    return done < 0 ? -1 : put_long(buffer, 0);
}

static int write_enum(Node *node, PyObject *value, Buffer *buffer) {
    PyObject *number = PyDict_GetItemWithError(node->object, value);
    if (!number) {
        if (!PyErr_Occurred())
            PyErr_SetObject(PyExc_KeyError, value);
        return -1;
    }
    return put_long(buffer, PyLong_AsLong(number));
}

static int write_value(Node *node, PyObject *value, Buffer *buffer, int access) {
    switch (node->op) {
    case STRING:
        return put_string(buffer, value);
    case BYTES:
        return put_buffer(buffer, value);
    case LONG: {
        long long number = PyLong_AsLongLong(value);
        return number == -1 && PyErr_Occurred() ? -1 : put_long(buffer, number);
    }
    case BOOLEAN: {
        int truth = PyObject_IsTrue(value);
        if (truth < 0 || buffer_has_room(buffer, 1) < 0)
            return -1;
        *buffer->at++ = (char)truth;
        return 0;
    }
    case FLOAT:
        return put_real(buffer, value, 4);
    case DOUBLE:
        return put_real(buffer, value, 8);
    case ENUM:
        return write_enum(node, value, buffer);
    case UNION:
        if (buffer_has_room(buffer, 1) < 0)
            return -1;
        *buffer->at++ = value == Py_None ? 0 : 2;
        return value == Py_None ? 0 : write_value(&node->children[0], value, buffer, access);
    case ARRAY:
        return write_array(node, value, buffer, access);
    case MAP:
        return write_map(node, value, buffer, access);
    default:
        return write_record(node, value, buffer, access);
    }
}

/* ------------------------------------------------------------------------------------ reading */

typedef struct {
    const unsigned char *data;
    Py_ssize_t at, size;
    PyObject *malformed; /* the class to raise; borrowed */
} Source;

static int cut_short(void) {
    PyErr_SetString(PyExc_IndexError, "index out of range");
    return -1;
}

static int refuse(Source *source, const char *why) {
    PyErr_SetString(source->malformed, why);
    return -1;
}

static int get_long_slowly(Source *source, int64_t *found) {
    uint64_t value = 0;
    for (int place = 0; place < 10; place++) {
        if (source->at >= source->size)
            return cut_short();
        unsigned char byte = source->data[source->at++];
        if (place == 9 && byte > 1)
            break;
        value |= (uint64_t)(byte & 127) << (7 * place);
        if (byte < 128) {
            *found = (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
            return 0;
        }
    }
    return refuse(source, "a number has more than 64 bits");
}

static inline int get_long(Source *source, int64_t *found) {
    if (source->at < source->size && source->data[source->at] < 128) {
        unsigned char byte = source->data[source->at++];
        *found = (int64_t)(byte >> 1) ^ -(int64_t)(byte & 1);
        return 0;
    }
    return get_long_slowly(source, found);
}

static inline int get_byte(Source *source, unsigned char *found) {
    if (source->at >= source->size)
        return cut_short();
    *found = source->data[source->at++];
    return 0;
}

/* Length of a text or bytes that the rest can hold. */
static inline int get_length(Source *source, Py_ssize_t *found) {
    int64_t length;
    if (get_long(source, &length) < 0)
        return -1;
    if (length < 0 || length > source->size - source->at)
        return refuse(source, 0 <= length && length < 64 ? "cut short"
                                                         : "a length is beyond the record");
    *found = (Py_ssize_t)length;
    return 0;
}

/* Items of the next block; 0 behind the last. */
static int get_count(Source *source, Py_ssize_t *found) {
    int64_t count, size;
    if (get_long(source, &count) < 0)
        return -1;
    *found = 0;
    if (count == 0)
        return 0;
    if (count < 0) {
        if (count == INT64_MIN)
            return refuse(source, "a block's count is beyond the record");
        count = -count;
        if (get_long(source, &size) < 0)
            return -1;
        if (size < 0 || size > source->size - source->at)
            return refuse(source, "a block is beyond the record");
    }
    if (count > source->size - source->at)
        return refuse(source, "a block's count is beyond the record");
    *found = (Py_ssize_t)count;
    return 0;
}

static PyObject *read_value(Node *node, Source *source);

static PyObject *read_text(Source *source, int op) {
    Py_ssize_t length;
    if (get_length(source, &length) < 0)
        return NULL;
    const char *data = (const char *)source->data + source->at;
    source->at += length;
    return op == STRING ? PyUnicode_DecodeUTF8(data, length, NULL)
                        : PyBytes_FromStringAndSize(data, length);
}

static PyObject *read_real(Source *source, int size) {
    if (source->size - source->at < size) {
        cut_short();
        return NULL;
    }
    const char *data = (const char *)source->data + source->at;
    source->at += size;
    double value = size == 4 ? PyFloat_Unpack4(data, 1) : PyFloat_Unpack8(data, 1);
    return value == -1.0 && PyErr_Occurred() ? NULL : PyFloat_FromDouble(value);
}

static PyObject *read_enum(Node *node, Source *source) {
    int64_t number;
    if (get_long(source, &number) < 0)
        return NULL;
    if (number >= 0 && number < PyTuple_GET_SIZE(node->object)) {
        PyObject *symbol = PyTuple_GET_ITEM(node->object, (Py_ssize_t)number);
        if (symbol != Py_None)
            return Py_NewRef(symbol);
    }
    PyErr_SetObject(source->malformed, node->why);
    return NULL;
}

static PyObject *read_array(Node *node, Source *source) {
    PyObject *items = NULL;
    Py_ssize_t count;
    for (;;) {
        if (get_count(source, &count) < 0)
            goto failed;
        if (count == 0)
            break;
        if (node->kept && !items && !(items = PyList_New(0)))
            goto failed;
        while (count-- > 0) {
            PyObject *item = read_value(&node->children[0], source);
            if (!item || (items && PyList_Append(items, item) < 0)) {
                Py_XDECREF(item);
                goto failed;
            }
            Py_DECREF(item);
        }
    }
    if (!node->kept)
        return Py_NewRef(Py_None);
    if (!node->as_tuple)
        return items ? items : PyList_New(0);
    PyObject *made = items ? PyList_AsTuple(items) : PyTuple_New(0);
    Py_XDECREF(items);
    return made;
failed:
    Py_XDECREF(items);
    return NULL;
}

static PyObject *read_map(Node *node, Source *source) {
    PyObject *made = PyDict_New();
    Py_ssize_t count;
    for (;;) {
        if (!made || get_count(source, &count) < 0)
            goto failed;
        if (count == 0)
            return made;
        while (count-- > 0) {
            PyObject *key = read_text(source, STRING);
            PyObject *item = key ? read_value(&node->children[0], source) : NULL;
            int done = item ? (node->kept ? PyDict_SetItem(made, key, item) : 0) : -1;
            Py_XDECREF(key);
            Py_XDECREF(item);
            if (done < 0)
                goto failed;
        }
    }
failed:
    Py_XDECREF(made);
    return NULL;
}

/* A default that nobody else may change. */
static PyObject *fresh(PyObject *value) {
    if (PyDict_CheckExact(value))
        return PyDict_Copy(value);
    if (PyList_CheckExact(value))
        return PyList_GetSlice(value, 0, PyList_GET_SIZE(value));
    return Py_NewRef(value);
}

static PyObject *construct(Node *node, PyObject **values, Py_ssize_t count) {
    if (!PyTuple_CheckExact(node->object))
        return PyObject_Vectorcall(node->object, values, count, NULL);
    PyObject *made = PyDict_New();
    for (Py_ssize_t at = 0; made && at < count; at++)
        if (PyDict_SetItem(made, PyTuple_GET_ITEM(node->object, at), values[at]) < 0)
            Py_CLEAR(made);
    return made;
}

#define FEW_FIELDS 48

static PyObject *read_record(Node *node, Source *source) {
    PyObject *few[FEW_FIELDS], **values = few, *made = NULL;
    Py_ssize_t count = node->kept ? PyTuple_GET_SIZE(node->defaults) : 0, at;
    if (count > FEW_FIELDS && !(values = PyMem_Calloc(count, sizeof *values)))
        return PyErr_NoMemory();
    if (values == few)
        memset(values, 0, count * sizeof *values);
    for (at = 0; at < node->count; at++) {
        PyObject *value = read_value(&node->children[at], source);
        if (!value)
            goto done;
        if (node->slots[at] >= 0)
            Py_XSETREF(values[node->slots[at]], value);
        else
            Py_DECREF(value);
    }
    if (!node->kept) {
        made = Py_NewRef(Py_None);
        goto done;
    }
    for (at = 0; at < count; at++)
        if (!values[at] && !(values[at] = fresh(PyTuple_GET_ITEM(node->defaults, at))))
            goto done;
    made = construct(node, values, count);
done:
    for (at = 0; at < count; at++)
        Py_XDECREF(values[at]);
    if (count > FEW_FIELDS)
        PyMem_Free(values);
    return made;
}

/* Replaces a value by what it is promoted to. */
static PyObject *promoted(int op, PyObject *value) {
    PyObject *made = NULL;
    if (!value)
        return NULL;
    if (op == TO_FLOAT)
        made = PyNumber_Float(value);
    else if (op == TO_BYTES)
        made = PyUnicode_AsUTF8String(value);
    else
        made = PyUnicode_DecodeUTF8(PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value), NULL);
    Py_DECREF(value);
    return made;
}

static PyObject *read_value(Node *node, Source *source) {
    int64_t number;
    unsigned char byte;
    switch (node->op) {
    case NONE:
        return Py_NewRef(Py_None);
    case STRING:
    case BYTES:
        return read_text(source, node->op);
    case LONG:
        return get_long(source, &number) < 0 ? NULL : PyLong_FromLongLong(number);
    case BOOLEAN:
        if (get_byte(source, &byte) < 0)
            return NULL;
        if (byte > 1) {
            refuse(source, "a boolean is neither 0 nor 1");
            return NULL;
        }
        return PyBool_FromLong(byte);
    case FLOAT:
        return read_real(source, 4);
    case DOUBLE:
        return read_real(source, 8);
    case FIXED:
        if (node->count > source->size - source->at) {
            cut_short();
            return NULL;
        }
        source->at += node->count;
        return PyBytes_FromStringAndSize(
            (const char *)source->data + source->at - node->count, node->count);
    case ENUM:
        return read_enum(node, source);
    case UNION:
        if (get_byte(source, &byte) < 0)
            return NULL;
        if (byte & 1 || byte / 2 >= node->count) {
            refuse(source, "no such branch of a union");
            return NULL;
        }
        return read_value(&node->children[byte / 2], source);
    case ARRAY:
        return read_array(node, source);
    case MAP:
        return read_map(node, source);
    case RECORD:
        return read_record(node, source);
    case REFUSED:
        PyErr_SetObject(source->malformed, node->object);
        return NULL;
    default:
        return promoted(node->op, read_value(&node->children[0], source));
    }
}

/* -------------------------------------------------------------------------------------- plans */

static int plan_node(Node *node, PyObject *plan, int writing);

static PyObject *part(PyObject *plan, Py_ssize_t at, PyTypeObject *type) {
    if (at >= PyTuple_GET_SIZE(plan)) {
        PyErr_SetString(PyExc_TypeError, "a plan is too short");
        return NULL;
    }
    PyObject *found = PyTuple_GET_ITEM(plan, at);
    if (type && !PyObject_TypeCheck(found, type)) {
        PyErr_Format(PyExc_TypeError, "a plan has %R where a %s is expected", found, type->tp_name);
        return NULL;
    }
    return found;
}

static int plan_one_child(Node *node, PyObject *plan, int writing) {
    PyObject *child = part(plan, 1, &PyTuple_Type);
    return !child || node_grow(node, 1) < 0 ? -1 : plan_node(&node->children[0], child, writing);
}

static int plan_path(Node *field, PyObject *path) {
    field->path = PyMem_Calloc(PyTuple_GET_SIZE(path) + 1, sizeof(Step));
    if (!field->path) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t at = 0; at < PyTuple_GET_SIZE(path); at++) {
        PyObject *name = part(path, at, &PyUnicode_Type);
        if (!name)
            return -1;
        PyUnicode_InternInPlace(&((PyTupleObject *)path)->ob_item[at]);
        field->path[at].name = Py_NewRef(PyTuple_GET_ITEM(path, at));
        field->steps = at + 1;
    }
    return 0;
}

static int plan_record(Node *node, PyObject *plan, int writing) {
    PyObject *fields = part(plan, 1, &PyTuple_Type);
    if (!fields || node_grow(node, PyTuple_GET_SIZE(fields)) < 0)
        return -1;
    for (Py_ssize_t at = 0; at < node->count; at++) {
        PyObject *field = part(fields, at, &PyTuple_Type);
        PyObject *place = field ? part(field, 0, writing ? &PyTuple_Type : &PyLong_Type) : NULL;
        PyObject *child = place ? part(field, 1, &PyTuple_Type) : NULL;
        if (!child || plan_node(&node->children[at], child, writing) < 0)
            return -1;
        if (writing && plan_path(&node->children[at], place) < 0)
            return -1;
        if (!writing)
            node->slots[at] = PyLong_AsSsize_t(place);
    }
    if (writing)
        return 0;
    PyObject *defaults = part(plan, 2, &PyTuple_Type), *made = part(plan, 3, NULL);
    if (!defaults || !made)
        return -1;
    for (Py_ssize_t at = 0; at < node->count; at++)
        if (node->slots[at] < -1 || node->slots[at] >= PyTuple_GET_SIZE(defaults)) {
            PyErr_SetString(PyExc_ValueError, "a plan names a place that is none");
            return -1;
        }
    node->kept = made != Py_None;
    node->defaults = Py_NewRef(defaults);
    node->object = Py_NewRef(made);
    return 0;
}

static int plan_union(Node *node, PyObject *plan, int writing) {
    if (writing)
        return plan_one_child(node, plan, writing);
    PyObject *branches = part(plan, 1, &PyTuple_Type);
    if (!branches || node_grow(node, PyTuple_GET_SIZE(branches)) < 0)
        return -1;
    for (Py_ssize_t at = 0; at < node->count; at++) {
        PyObject *branch = part(branches, at, &PyTuple_Type);
        if (!branch || plan_node(&node->children[at], branch, writing) < 0)
            return -1;
    }
    return 0;
}

static int plan_enum(Node *node, PyObject *plan, int writing) {
    PyObject *symbols = part(plan, 1, writing ? &PyDict_Type : &PyTuple_Type);
    PyObject *why = symbols && !writing ? part(plan, 2, &PyUnicode_Type) : NULL;
    if (!symbols || (!writing && !why))
        return -1;
    node->object = Py_NewRef(symbols);
    node->why = Py_XNewRef(why);
    return 0;
}

static int plan_node(Node *node, PyObject *plan, int writing) {
    PyObject *op = part(plan, 0, &PyLong_Type);
    if (!op)
        return -1;
    node->op = (int)PyLong_AsLong(op);
    node->kept = 1;
    switch (node->op) {
    case ENUM:
        return plan_enum(node, plan, writing);
    case UNION:
        return plan_union(node, plan, writing);
    case RECORD:
        return plan_record(node, plan, writing);
    case ARRAY:
    case MAP: {
        int array = node->op == ARRAY;
        PyObject *kept = writing ? Py_True : part(plan, array ? 3 : 2, NULL);
        if (!kept)
            return -1;
        node->kept = kept == Py_True;
        node->as_tuple = array && !writing && PyTuple_GET_ITEM(plan, 2) == Py_True;
        return plan_one_child(node, plan, writing);
    }
    case TO_FLOAT:
    case TO_BYTES:
    case TO_STRING:
        return plan_one_child(node, plan, writing);
    case FIXED: {
        PyObject *size = part(plan, 1, &PyLong_Type);
        node->count = size ? PyLong_AsSsize_t(size) : 0;
        return size ? 0 : -1;
    }
    case REFUSED: {
        PyObject *why = part(plan, 1, &PyUnicode_Type);
        node->object = Py_XNewRef(why);
        return why ? 0 : -1;
    }
    default:
        return 0;
    }
}

/* -------------------------------------------------------------------------------------- types */

typedef struct {
    PyObject_HEAD
    vectorcallfunc call;
    Node root;
    int access;
    PyObject *apart; /* a writer's header; a reader's class to raise */
} Compiled;

static void compiled_dealloc(Compiled *self) {
    PyTypeObject *type = Py_TYPE(self);
    node_clear(&self->root);
    Py_XDECREF(self->apart);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
writer_call(PyObject *callable, PyObject *const *given, size_t flags, PyObject *names) {
    Compiled *self = (Compiled *)callable;
    Py_ssize_t count = PyVectorcall_NARGS(flags);
    Py_ssize_t wanted = self->access == ARGUMENTS ? self->root.count : 1;
    if (count != wanted || names)
        return PyErr_Format(PyExc_TypeError, "%zd arguments are expected, not %zd", wanted, count);
    Buffer buffer;
    buffer_begin(&buffer);
    int done = buffer_has_room(&buffer, PyBytes_GET_SIZE(self->apart));
    if (done == 0) {
        memcpy(buffer.at, PyBytes_AS_STRING(self->apart), PyBytes_GET_SIZE(self->apart));
        buffer.at += PyBytes_GET_SIZE(self->apart);
    }
    if (self->access == ARGUMENTS)
        for (Py_ssize_t at = 0; done == 0 && at < count; at++)
            done = write_value(&self->root.children[at], given[at], &buffer, ATTRIBUTES);
    else if (done == 0)
        done = write_record(&self->root, given[0], &buffer, self->access);
    PyObject *made =
        done < 0 ? NULL : PyBytes_FromStringAndSize(buffer.start, buffer.at - buffer.start);
    buffer_free(&buffer);
    return made;
}

static PyObject *
reader_call(PyObject *callable, PyObject *const *given, size_t flags, PyObject *names) {
    Compiled *self = (Compiled *)callable;
    if (PyVectorcall_NARGS(flags) != 2 || names)
        return PyErr_Format(PyExc_TypeError, "read(data, start) takes two arguments");
    Py_ssize_t start = PyLong_AsSsize_t(given[1]);
    if (start == -1 && PyErr_Occurred())
        return NULL;
    Py_buffer view;
    if (PyObject_GetBuffer(given[0], &view, PyBUF_SIMPLE) < 0)
        return NULL;
    Source source = {view.buf, start, view.len, self->apart};
    PyObject *made = NULL;
    if (start < 0 || start > view.len)
        refuse(&source, "cut short");
    else
        made = read_value(&self->root, &source);
    if (made && source.at != source.size) {
        refuse(&source, "bytes are left over");
        Py_CLEAR(made);
    }
    PyBuffer_Release(&view);
    return made;
}

static PyObject *
compiled_new(PyTypeObject *type, PyObject *plan, PyObject *apart, int access, int writing) {
    Compiled *self = (Compiled *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->call = writing ? writer_call : reader_call;
    self->access = access;
    self->apart = Py_NewRef(apart);
    if (plan_node(&self->root, plan, writing) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static PyObject *writer_new(PyTypeObject *type, PyObject *given, PyObject *names) {
    static char *known[] = {"plan", "header", "access", NULL};
    PyObject *plan, *header;
    int access;
    if (!PyArg_ParseTupleAndKeywords(
            given, names, "O!Si", known, &PyTuple_Type, &plan, &header, &access))
        return NULL;
    return compiled_new(type, plan, header, access, 1);
}

static PyObject *reader_new(PyTypeObject *type, PyObject *given, PyObject *names) {
    static char *known[] = {"plan", "malformed", NULL};
    PyObject *plan, *malformed;
    if (!PyArg_ParseTupleAndKeywords(given, names, "O!O", known, &PyTuple_Type, &plan, &malformed))
        return NULL;
    return compiled_new(type, plan, malformed, ATTRIBUTES, 0);
}

static PyMemberDef compiled_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Compiled, call), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot writer_slots[] = {
    {Py_tp_new, writer_new},
    {Py_tp_dealloc, compiled_dealloc},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_members, compiled_members},
    {Py_tp_doc, "Writer(plan, header, access): encodes a record; see writer.py."},
    {0, NULL},
};
static PyType_Slot reader_slots[] = {
    {Py_tp_new, reader_new},
    {Py_tp_dealloc, compiled_dealloc},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_members, compiled_members},
    {Py_tp_doc, "Reader(plan, malformed): decodes a record; see reader.py."},
    {0, NULL},
};
#define FLAGS (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_IMMUTABLETYPE)
static PyType_Spec writer_spec = {
    "streams.wire._native.Writer", sizeof(Compiled), 0, FLAGS, writer_slots};
static PyType_Spec reader_spec = {
    "streams.wire._native.Reader", sizeof(Compiled), 0, FLAGS, reader_slots};

static int add_types(PyObject *module) {
    PyObject *writer = PyType_FromModuleAndSpec(module, &writer_spec, NULL);
    PyObject *reader = PyType_FromModuleAndSpec(module, &reader_spec, NULL);
    int done = writer && reader ? 0 : -1;
    if (done == 0)
        done = PyModule_AddObjectRef(module, "Writer", writer);
    if (done == 0)
        done = PyModule_AddObjectRef(module, "Reader", reader);
    Py_XDECREF(writer);
    Py_XDECREF(reader);
    return done;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, add_types}, {0, NULL}};
static PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "streams.wire._native", NULL, 0, NULL, module_slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&module); }
