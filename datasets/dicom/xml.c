/* The text of XML reports; see report.h. */
#include "base/memory.h"
#include "datasets/dicom/report.h"
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <string.h>

enum { DEPTH_MAX = 200 };

static bool named(const xmlNode *n, const char *name)
{
    return n->type == XML_ELEMENT_NODE && strcmp((const char *)n->name, name) == 0;
}

static bool ends_with_space(const su_buffer *out)
{
    return out->length == 0 || strchr(" \n", out->data[out->length - 1]) != NULL;
}

/* Runs of white space as one space. */
static su_status add_words(su_buffer *out, const char *text, su_error *err)
{
    su_status st = SU_OK;
    while (!st && *text) {
        const size_t space = strspn(text, " \t\r\n"), word = strcspn(text + space, " \t\r\n");
        if (space && !ends_with_space(out)) st = su_buffer_add(out, " ", 1, err);
        if (!st && word) st = su_buffer_add(out, text + space, word, err);
        text += space + word;
    }
    return st;
}

static su_status end_line(su_buffer *out, su_error *err)
{
    if (out->length && out->data[out->length - 1] == ' ') out->data[--out->length] = '\0';
    return out->length && out->data[out->length - 1] != '\n' ? su_buffer_add(out, "\n", 1, err) : SU_OK;
}

/* All text below a node; elements end lines but for those that stand in the middle of a sentence. */
static su_status all_text(const xmlNode *node, int depth, su_buffer *out, su_error *err)
{
    static const char *const inner[] = {"content", "sub", "sup", "b", "i", "em", "strong", "span", NULL};
    su_status st = SU_OK;
    for (const xmlNode *n = node->children; !st && n && depth < DEPTH_MAX; n = n->next) {
        if (n->type == XML_TEXT_NODE || n->type == XML_CDATA_SECTION_NODE) {
            st = add_words(out, (const char *)n->content, err);
        } else if (n->type == XML_ELEMENT_NODE) {
            bool inside = false;
            for (const char *const *name = inner; *name; name++) inside = inside || named(n, *name);
            if (!inside) st = end_line(out, err);
            if (!st) st = all_text(n, depth + 1, out, err);
            if (!st && !inside) st = end_line(out, err);
        }
    }
    return st;
}

/* Open-i: <AbstractText Label="FINDINGS">...; *found when there was one. */
static su_status labelled(const xmlNode *node, int depth, bool *found, su_buffer *out, su_error *err)
{
    su_status st = SU_OK;
    for (xmlNode *n = node->children; !st && n && depth < DEPTH_MAX; n = n->next) {
        if (!named(n, "AbstractText")) {
            st = labelled(n, depth + 1, found, out, err);
            continue;
        }
        xmlChar *label = xmlGetProp(n, (const xmlChar *)"Label");
        const size_t before = out->length;
        *found = true;
        if (label) st = su_buffer_printf(out, err, "%s: ", (const char *)label);
        const size_t empty = out->length;
        if (!st) st = all_text(n, depth + 1, out, err);
        if (out->length == empty) {
            out->length = before;
            if (out->data) out->data[before] = '\0';
        }
        if (!st) st = end_line(out, err);
        xmlFree(label);
    }
    return st;
}

/* CDA: each section's title and text [HL7 CDA R2]; the header, full of people, is left out. */
static su_status sections(const xmlNode *node, int depth, su_buffer *out, su_error *err)
{
    su_status st = SU_OK;
    for (const xmlNode *n = node->children; !st && n && depth < DEPTH_MAX; n = n->next) {
        const bool shown = named(node, "section") && (named(n, "title") || named(n, "text"));
        st = shown ? all_text(n, depth + 1, out, err) : sections(n, depth + 1, out, err);
        if (!st && shown) st = named(n, "title") ? su_buffer_add(out, ": ", 2, err) : end_line(out, err);
    }
    return st;
}

static su_status text_of(xmlDoc *doc, su_buffer *out, su_error *err)
{
    const xmlNode *root = xmlDocGetRootElement(doc);
    bool found = false;
    if (!root) return SU_OK;
    if (named(root, "ClinicalDocument")) return sections(root, 0, out, err);
    su_status st = labelled(root, 0, &found, out, err);
    return st || found ? st : all_text(root, 0, out, err);
}

su_status su_report_of_xml(const char *data, size_t length, const char *name, char **text, su_error *err)
{
    su_buffer out;
    *text = NULL;
    if (length > SU_REPORT_MAX) return su_fail(err, SU_ELIMIT, "%s: a report of %zu bytes", name, length);
    xmlDoc *doc =
        xmlReadMemory(data, (int)length, NULL, NULL,
                      XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_COMPACT);
    if (!doc) return su_fail(err, SU_EFORMAT, "%s: damaged XML", name);
    if (doc->intSubset || doc->extSubset) {
        xmlFreeDoc(doc);
        return su_fail(err, SU_EFORMAT, "%s: XML with a document type declaration is not read", name);
    }
    su_buffer_init(&out, SU_REPORT_MAX);
    su_status st = text_of(doc, &out, err);
    if (!st && !(*text = su_strdup(out.data ? out.data : "")))
        st = su_fail(err, SU_ENOMEM, "%s: no memory", name);
    su_buffer_free(&out);
    xmlFreeDoc(doc);
    return st;
}
