/* The types that Python sees: Writer and Reader, each a plan that can be called. See plan.h. */
#include "plan.h"
#include <stddef.h>
#include <structmember.h>

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
    return write_whole(&self->root, self->apart, given, count, self->access);
}

static PyObject *
reader_call(PyObject *callable, PyObject *const *given, size_t flags, PyObject *names) {
    Compiled *self = (Compiled *)callable;
    if (PyVectorcall_NARGS(flags) != 2 || names)
        return PyErr_Format(PyExc_TypeError, "read(data, start) takes two arguments");
    Py_ssize_t start = PyLong_AsSsize_t(given[1]);
    if (start == -1 && PyErr_Occurred())
        return NULL;
    return read_whole(&self->root, self->apart, given[0], start);
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
