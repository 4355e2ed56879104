/* Encodes a record as its plan says: see plan.h. */
#include "plan.h"
#include <stdint.h>
#include <string.h>
#include <structmember.h>

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

PyObject *write_whole(
    Node *root, PyObject *header, PyObject *const *given, Py_ssize_t count, int access) {
    Buffer buffer;
    buffer_begin(&buffer);
    int done = buffer_has_room(&buffer, PyBytes_GET_SIZE(header));
    if (done == 0) {
        memcpy(buffer.at, PyBytes_AS_STRING(header), PyBytes_GET_SIZE(header));
        buffer.at += PyBytes_GET_SIZE(header);
    }
    if (access == ARGUMENTS)
        for (Py_ssize_t at = 0; done == 0 && at < count; at++)
            done = write_value(&root->children[at], given[at], &buffer, ATTRIBUTES);
    else if (done == 0)
        done = write_record(root, given[0], &buffer, access);
    PyObject *made =
        done < 0 ? NULL : PyBytes_FromStringAndSize(buffer.start, buffer.at - buffer.start);
    buffer_free(&buffer);
    return made;
}
