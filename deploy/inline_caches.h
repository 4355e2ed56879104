/* Inline caches for the C that mypyc writes: compile.sh has every compiled file begin with this.
 *
 * Most of what the rules touch are structs of msgspec, of which mypyc knows nothing: reading an
 * attribute, asking isinstance and reading a name of the module cost a search each, some 114, 1300
 * and 115 instructions, where they have the same answer every time. Here each place in the C keeps
 * the answer that it got last, as the bytecode of CPython has done since 3.11, and under the same
 * guard: the version of the type, or of the dictionary. CPython gives a type or dictionary a new
 * version whenever it is changed, and never one again that another has had; so what has been freed,
 * and its address used for something else, is no danger. Version 0 means "none" and is never kept.
 *
 * Whatever is not quite ordinary goes the ordinary way. So does everything under a CPython for which
 * nobody has checked that this holds, or that runs without its lock.
 */
#if defined(__GNUC__) && __has_include(<CPy.h>) /* absent where only a module's stub is compiled */
#include <CPy.h>
#if PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030E0000 && !defined(Py_GIL_DISABLED)

/* Attributes: ``object.name``, a slot that holds a value (LOAD_ATTR_SLOT in CPython). */

typedef struct {
    PyObject *name; /* Held, so that no other text comes to its address. */
    Py_ssize_t offset;
    unsigned int version;
} CachedSlot;

/* The ordinary way, keeping where the slot is if there is one. */
static CPy_NOINLINE PyObject *
find_attribute(PyObject *object, PyObject *name, CachedSlot *cached)
{
    PyTypeObject *type = Py_TYPE(object);
    if (type->tp_getattro != PyObject_GenericGetAttr || !PyUnicode_CheckExact(name))
        return PyObject_GetAttr(object, name);
    unsigned int version = type->tp_version_tag;
    PyObject *found = _PyType_Lookup(type, name);
    if (found != NULL && Py_IS_TYPE(found, &PyMemberDescr_Type)
        && version != 0 && version == type->tp_version_tag) {
        PyMemberDef *member = ((PyMemberDescrObject *)found)->d_member;
        /* Somebody may have put the slot of one class into another. */
        int own = PyType_IsSubtype(type, PyDescr_TYPE(found));
        if (own && member->type == T_OBJECT_EX && (member->flags & ~READONLY) == 0) {
            cached->offset = member->offset;
            cached->version = version;
            Py_INCREF(name);
            Py_XSETREF(cached->name, name);
        }
    }
    return PyObject_GetAttr(object, name);
}

static inline PyObject *
read_attribute(PyObject *object, PyObject *name, CachedSlot *cached)
{
    if (likely(cached->version == Py_TYPE(object)->tp_version_tag && cached->name == name)) {
        PyObject *value = *(PyObject **)((char *)object + cached->offset);
        if (likely(value != NULL)) {
            Py_INCREF(value);
            return value;
        }
    }
    return find_attribute(object, name, cached);
}

#undef CPyObject_GetAttr
#define CPyObject_GetAttr(object, name) \
    __extension__({ static CachedSlot cached_; read_attribute((object), (name), &cached_); })

/* isinstance: CPython searches for __instancecheck__ if a class is of a metaclass, as structs are. */

/* Whether ``type`` finds what ``base`` has under ``name``; ``known`` is the last that did. */
static int
inherits(PyTypeObject *type, PyTypeObject *base, const char *name, unsigned int *known)
{
    if (type->tp_version_tag != 0 && type->tp_version_tag == *known)
        return 1;
    PyObject *text = PyUnicode_InternFromString(name);
    if (text == NULL) {
        PyErr_Clear();
        return 0;
    }
    PyObject *found = _PyType_Lookup(type, text);
    int same = found != NULL && found == _PyType_Lookup(base, text);
    Py_DECREF(text);
    if (same)
        *known = type->tp_version_tag;
    return same;
}

static int
is_of_class(PyObject *object, PyObject *class)
{
    static unsigned int metaclass_known, type_known;
    PyTypeObject *type = Py_TYPE(object);
    if (Py_IS_TYPE(object, (PyTypeObject *)class))
        return 1;
    if (PyType_Check(class)
        && inherits(Py_TYPE(class), &PyType_Type, "__instancecheck__", &metaclass_known)) {
        if (PyType_IsSubtype(type, (PyTypeObject *)class))
            return 1;
        /* An object may say with __class__ that it is something else. */
        if (type->tp_getattro == PyObject_GenericGetAttr
            && inherits(type, &PyBaseObject_Type, "__class__", &type_known))
            return 0;
    }
    return PyObject_IsInstance(object, class);
}

static int
is_instance(PyObject *object, PyObject *wanted)
{
    if (!PyTuple_CheckExact(wanted))
        return is_of_class(object, wanted);
    int answer = 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(wanted) && answer == 0; i++)
        answer = is_of_class(object, PyTuple_GET_ITEM(wanted, i));
    return answer;
}

#define PyObject_IsInstance(object, wanted) is_instance((object), (wanted))

/* Names of the module, such as an imported class: ``CPyDict_GetItem(globals, name)``. */

typedef struct {
    PyObject *name;  /* Held, so that no other text comes to its address. */
    PyObject *value; /* The dictionary holds it as long as it has this version. */
    uint64_t version;
    int kept_times;
} CachedItem;

/* A place that looks up something else each time, in a dictionary of the rules, soon stops. */
#define KEPT_TIMES_MAX 8

/* The version is out of CPython's documentation, but in its headers up to 3.13. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static inline uint64_t
version_of(PyObject *dict)
{
    return ((PyDictObject *)dict)->ma_version_tag;
}
#pragma GCC diagnostic pop

/* The ordinary way, keeping what was found if it may be a name of a module. */
static CPy_NOINLINE PyObject *
find_item(PyObject *dict, PyObject *name, CachedItem *cached)
{
    uint64_t version = PyDict_CheckExact(dict) ? version_of(dict) : 0;
    PyObject *value = CPyDict_GetItem(dict, name);
    /* A dictionary with values apart is that of an object, and is changed in other ways too. */
    if (cached->kept_times < KEPT_TIMES_MAX && value != NULL && PyDict_CheckExact(dict)
        && ((PyDictObject *)dict)->ma_values == NULL && version == version_of(dict)
        && PyUnicode_CheckExact(name) && PyUnicode_CHECK_INTERNED(name)) {
        cached->kept_times++;
        cached->value = value;
        cached->version = version;
        Py_INCREF(name);
        Py_XSETREF(cached->name, name);
    }
    return value;
}

static inline PyObject *
read_item(PyObject *dict, PyObject *name, CachedItem *cached)
{
    if (likely(cached->name == name && PyDict_CheckExact(dict)
               && cached->version == version_of(dict))) {
        Py_INCREF(cached->value);
        return cached->value;
    }
    return find_item(dict, name, cached);
}

/* Only in what mypyc wrote, which includes (levels 1 and deeper) the file that defines it. */
#define CPyDict_GetItem AT_LEVEL(CPyDict_GetItem_, __INCLUDE_LEVEL__)
#define AT_LEVEL(function, level) AT_LEVEL_(function, level)
#define AT_LEVEL_(function, level) function##level
#define CPyDict_GetItem_0(dict, name) \
    __extension__({ static CachedItem cached_; read_item((dict), (name), &cached_); })
#define CPyDict_GetItem_1 CPyDict_GetItem
#define CPyDict_GetItem_2 CPyDict_GetItem

#endif
#endif
