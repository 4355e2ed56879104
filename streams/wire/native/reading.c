/* Decodes a value as its plan says, whatever the bytes: see plan.h. */
#include "plan.h"
#include <stdint.h>
#include <string.h>

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

PyObject *read_whole(Node *root, PyObject *malformed, PyObject *data, Py_ssize_t start) {
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    Source source = {view.buf, start, view.len, malformed};
    PyObject *made = NULL;
    if (start < 0 || start > view.len)
        refuse(&source, "cut short");
    else
        made = read_value(root, &source);
    if (made && source.at != source.size) {
        refuse(&source, "bytes are left over");
        Py_CLEAR(made);
    }
    PyBuffer_Release(&view);
    return made;
}
