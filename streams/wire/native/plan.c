/* From a plan in tuples to nodes. A plan that is wrong is an error, never a crash: see plan.h. */
#include "plan.h"
#include <string.h>

void node_clear(Node *node) {
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

int plan_node(Node *node, PyObject *plan, int writing) {
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
