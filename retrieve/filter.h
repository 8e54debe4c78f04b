/* Conditions on an index's items: a parsed --where expression. */
#ifndef SU_RETRIEVE_FILTER_H
#define SU_RETRIEVE_FILTER_H

#include "retrieve/index.h"

typedef struct su_filter su_filter;

su_status su_filter_parse(const su_index_filter *source, su_filter **filter, su_error *err);
void su_filter_free(su_filter *f);
bool su_filter_passes(const su_filter *f, const su_index_item *item);

#endif
